// Asks before something that cannot be undone.
import { type ReactNode, useLayoutEffect, useRef, useState } from "react";
import { asProblem, explain } from "../api/problem";

type Props = {
  title: string;
  children: ReactNode;
  action: string;
  /** Does it; the dialog stays open and says why if it throws. */
  onConfirm: () => Promise<void>;
  onClose: () => void;
};

export function Confirm({ title, children, action, onConfirm, onClose }: Props): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  // Closing gives the focus back to where it was, but only while the dialog is still in the page.
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  const confirm = async (): Promise<void> => {
    setBusy(true);
    setFailure("");
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      setFailure(explain(asProblem(error)).text);
      setBusy(false);
    }
  };
  return (
    <dialog
      ref={dialog}
      aria-labelledby="confirm-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <h2 id="confirm-title">{title}</h2>
      <p>{children}</p>
      {failure && (
        <p className="field-error" role="alert">
          {failure}
        </p>
      )}
      <div className="dialog-actions">
        <button type="button" className="quiet" onClick={onClose}>
          Cancel
        </button>
        <button type="button" className="danger" onClick={confirm} disabled={busy}>
          {action}
        </button>
      </div>
    </dialog>
  );
}
