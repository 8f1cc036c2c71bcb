// Puts the page together and shows it.
import { createRoot } from "react-dom/client";
import { Api, refresh } from "./api/client";
import { exclusively, SessionStore } from "./api/session";
import "./styles/index.css";
import { App } from "./ui/app";
import { applyTheme } from "./ui/theme";

applyTheme();
const sessions = new SessionStore({ storage: window.localStorage, now: Date.now, exclusively, refresh });
// Fires for what other tabs write: a sign-out, a new session, a refresh.
window.addEventListener("storage", () => sessions.changedElsewhere());
const root = document.getElementById("root");
if (root) createRoot(root).render(<App sessions={sessions} api={new Api(sessions)} />);
