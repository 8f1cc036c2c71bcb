// Loaded before Portkey's gateway, which would listen on every interface and forward for whoever finds it: it listens on loopback alone.
const { Server } = require("node:net");

const listen = Server.prototype.listen;

Server.prototype.listen = function (port, _host, ...rest) {
  return listen.call(this, port, "127.0.0.1", ...rest);
};
