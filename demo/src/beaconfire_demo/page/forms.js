/** Forms whose content is sent through the offline queue. They close at once. */

import { isDialogOpen, openForm } from "./dialog.js";

/**
 * Show a form. If what it sends is refused, it opens again with the typed values and the reason.
 * @param {object} form
 * @param {string} form.title @param {string} form.submit
 * @param {(values: any) => import("./dialog.js").Field[]} form.fields  `values`: what they show, or undefined
 * @param {any} [form.values]
 * @param {(typed: any) => Promise<{error?: Error} | undefined>} form.send  undefined if there is nothing to send
 * @param {() => boolean} form.isLeft  whether the user has left the view
 */
export function openSent({ title, submit, fields, values, send, isLeft }) {
  const ask = (shown, problem) => openForm({ title, submit, fields: fields(shown), problem, onSubmit: (typed) => void save(typed) });
  const save = async (typed) => {
    const { error } = (await send(typed)) ?? {};
    if (error && !isLeft() && !isDialogOpen()) ask({ ...values, ...typed }, error.message);
  };
  ask(values);
}
