// Signing in and up: one form.
import { type FormEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { signIn, signUp } from "../api/client";
import { asProblem, explain, type Problem } from "../api/problem";
import type { SessionStore } from "../api/session";
import { Mark } from "./icons";
import { Notice } from "./notice";
import { ThemeButton } from "./theme-button";

type Faults = { email?: string; password?: string; form?: Problem };

const MIN_PASSWORD = 8;
const MAX_PASSWORD = 128;

export function SignIn({ sessions }: { sessions: SessionStore }): ReactNode {
  const [creating, setCreating] = useState(false);
  const [faults, setFaults] = useState<Faults>(sessions.endedBy ? { form: sessions.endedBy } : {});
  const [busy, setBusy] = useState(false);
  const email = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);

  useEffect(() => {
    document.title = "Parley";
    email.current?.focus();
  }, []);

  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    if (busy) return;
    const address = email.current?.value.trim() ?? "";
    const secret = password.current?.value ?? "";
    const wrong = check(address, secret, creating);
    if (wrong.email || wrong.password) return show(wrong);
    setBusy(true);
    try {
      sessions.start(await (creating ? signUp : signIn)(address, secret));
    } catch (error) {
      show(faultsOf(asProblem(error)));
      setBusy(false);
    }
  };

  const show = (found: Faults): void => {
    setFaults(found);
    if (found.email) email.current?.focus();
    else if (found.password) password.current?.focus();
  };

  const change = (): void => {
    setCreating(!creating);
    setFaults({});
    email.current?.focus();
  };

  return (
    <main className="sign-in">
      <div className="corner">
        <ThemeButton />
      </div>
      <form onSubmit={submit} noValidate aria-labelledby="sign-in-title">
        <Mark size={44} />
        <h1 id="sign-in-title">{creating ? "Create your account" : "Welcome to Parley"}</h1>
        <p className="muted">
          {creating
            ? "An e-mail address and a password are all it takes."
            : "Sign in to go on with your conversations."}
        </p>
        {faults.form && <Notice problem={faults.form} alert />}
        <Field label="E-mail" type="email" autoComplete="username" input={email} fault={faults.email} />
        <Field
          label="Password"
          type="password"
          autoComplete={creating ? "new-password" : "current-password"}
          input={password}
          fault={faults.password}
          hint={creating ? `${MIN_PASSWORD} characters or more` : ""}
        />
        <button type="submit" className="primary wide" disabled={busy}>
          {busy ? "One moment…" : creating ? "Create account" : "Sign in"}
        </button>
        <p className="switch">
          {creating ? "You have an account?" : "New here?"}{" "}
          <button type="button" className="link" onClick={change}>
            {creating ? "Sign in" : "Create an account"}
          </button>
        </p>
      </form>
    </main>
  );
}

type FieldProps = {
  label: string;
  type: "email" | "password";
  autoComplete: string;
  input: React.RefObject<HTMLInputElement | null>;
  fault: string | undefined;
  hint?: string;
};

function Field({ label, type, autoComplete, input, fault, hint }: FieldProps): ReactNode {
  const id = useId();
  const [shown, setShown] = useState(false);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <div className="field-box">
        <input
          id={id}
          ref={input}
          type={shown ? "text" : type}
          autoComplete={autoComplete}
          autoCapitalize="none"
          spellCheck={false}
          required
          aria-invalid={fault ? true : undefined}
          aria-describedby={fault || hint ? `${id}-note` : undefined}
        />
        {type === "password" && (
          <button
            type="button"
            className="link"
            onClick={() => setShown(!shown)}
            aria-pressed={shown}
            aria-label="Show password"
          >
            {shown ? "Hide" : "Show"}
          </button>
        )}
      </div>
      {fault ? (
        <p id={`${id}-note`} className="field-error" role="alert">
          {fault}
        </p>
      ) : (
        hint && (
          <p id={`${id}-note`} className="hint">
            {hint}
          </p>
        )
      )}
    </div>
  );
}

/** What can be said without asking the server. */
function check(email: string, password: string, creating: boolean): Faults {
  const faults: Faults = {};
  if (email === "") faults.email = "Enter your e-mail address.";
  else if (!/^\S+@\S+$/.test(email)) faults.email = "This does not look like an e-mail address.";
  const length = [...password].length;
  if (length === 0) faults.password = "Enter your password.";
  else if (creating && length < MIN_PASSWORD) faults.password = `Use at least ${MIN_PASSWORD} characters.`;
  else if (creating && length > MAX_PASSWORD) faults.password = `Use at most ${MAX_PASSWORD} characters.`;
  return faults;
}

function faultsOf(problem: Problem): Faults {
  const { text } = explain(problem);
  if (problem.code === "invalid_credentials") return { password: text };
  if (problem.code === "email_taken") return { email: text };
  if (problem.field === "email" || problem.field === "password") return { [problem.field]: text };
  return { form: problem };
}
