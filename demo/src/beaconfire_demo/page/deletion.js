/** Asks before a thing is deleted. */

import { valueAt } from "./changes.js";
import { openQuestion } from "./dialog.js";

/**
 * Ask before a thing is deleted. If it changed in the meantime, ask again about its current state.
 * @param {{title: string, text: string, revision: number, remove: (revision: number) => Promise<unknown>,
 *   keep: (current: any) => void, onDone: () => void, view: import("./outgoing.js").Showing}} deletion
 */
export function openDeletion({ title, text, revision, remove, keep, onDone, view }) {
  openQuestion({
    title,
    text,
    submit: "Delete",
    onSubmit: async () => {
      try {
        await remove(revision);
      } catch (error) {
        const { current, conflicts = [] } = error.details ?? {};
        if (!current) throw error;
        revision = current.revision;
        keep(current);
        const now = conflicts.map((field) => `${view.fieldWord(field)} is now “${view.valueWord(field, valueAt(current, field))}”`);
        const what = now.length > 0 ? `: ${now.join(", ")}` : "";
        throw new Error(`This was changed in the meantime${what}. Delete again if you still want to.`);
      }
      onDone();
    },
  });
}
