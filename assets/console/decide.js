// The dialog before an act: why, and how. Enter confirms, Escape leaves everything as it is.

import { field, h } from "./page.js";

// Asks for a reason and options, and carries out `act` with them. Resolves to what `act` returned, or
// to null when the operator cancelled. If `act` fails, the dialog stays open and says why.
//
// `options` are check boxes ({name, label, checked, help}) and inputs ({name, label, input, help}).
export function decide({ title, text = null, reason = "", options = [], confirm, isGrave = false, act }) {
  return new Promise((resolve) => {
    let result = null;
    const why = h("textarea", { rows: "2", required: true, maxlength: "2000", value: reason, autofocus: true });
    const inputs = options.map((option) => [option, option.input ?? h("input", { type: "checkbox", checked: option.checked })]);
    const problem = h("p", { class: "problem", role: "alert" });
    const go = h("button", { class: isGrave ? "primary grave" : "primary" }, confirm);
    const form = h("form", { onsubmit: submit },
      h("h2", { id: "decide-title" }, title),
      text && h("p", {}, text),
      field("Reason, for the log", why),
      inputs.map(([option, input]) => option.input
        ? field(option.label, input, option.help)
        : h("div", { class: "field" }, h("label", { class: "check" }, input, ` ${option.label}`),
          option.help && h("p", { class: "help" }, option.help))),
      problem,
      h("div", { class: "row" }, go, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
    const dialog = h("dialog", { "aria-labelledby": "decide-title" }, form);
    why.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });

    async function submit(event) {
      event.preventDefault();
      if (go.disabled) return;
      go.disabled = true;
      problem.textContent = "";
      const chosen = Object.fromEntries(inputs.map(([option, input]) => [option.name, option.input ? input.value : input.checked]));
      try {
        result = (await act(why.value, chosen)) ?? true;
        dialog.close();
      } catch (error) {
        problem.textContent = error.message;
      } finally {
        go.disabled = false;
      }
    }

    document.body.append(dialog);
    dialog.showModal();
    why.select();
  });
}
