"""The five capabilities: auth, data, gateway, chat and edge. A listing of this folder is the architecture."""
