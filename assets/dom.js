// Makes elements. Every text is set as text, never as markup.

/**
 * Makes an element: `make("p", { className: "soft" }, "text")`. A property with a hyphen is an attribute.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else if (value !== undefined) Reflect.set(element, name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element with this id, or null. @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);
