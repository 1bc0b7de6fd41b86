// The console: signs the operator in, and shows the screen that the address names.

import { operator, onSignOut, signIn, signOut } from "./api.js";
import { audit } from "./audit.js";
import { blocks } from "./blocks.js";
import { charts } from "./charts.js";
import { find } from "./find.js";
import { health } from "./health.js";
import { image } from "./image.js";
import { help, setGlobalKeys, setKeys } from "./keys.js";
import { button, field, h, show } from "./page.js";
import { queue } from "./queue.js";

const SCREENS = [
  ["queue", "Queue", (place, query, rest) => queue(place, rest)],
  ["find", "Find", find],
  ["blocks", "Blocks", blocks],
  ["log", "Log", audit],
  ["charts", "Charts", charts],
  ["health", "Health", health],
];
const app = document.getElementById("app");
const main = h("main", { id: "main", tabindex: "-1" });
const nav = h("nav", { "aria-label": "Screens" });
let leave = null;
let turn = 0;

function start(message = "") {
  leave?.();
  leave = null;
  if (operator() === null) return showSignIn(message);
  show(app,
    h("a", { href: "#main", class: "skip", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to the content"),
    h("header", { class: "bar" },
      h("span", { class: "brand" }, "pixtoll ", h("span", { class: "quiet" }, "console")), nav,
      h("div", { class: "who" }, h("span", { class: "quiet" }, operator()), button("Keys", help), button("Sign out", () => signOut()))),
    main);
  setGlobalKeys(SCREENS.map(([name, label], index) => [String(index + 1), label, () => { location.hash = `#/${name}`; }]));
  return route();
}

async function route() {
  if (operator() === null) return;
  const [path, words = ""] = location.hash.replace(/^#\//, "").split("?");
  const [name, rest] = path.split("/");
  const known = SCREENS.find(([screen]) => screen === name);
  const current = known ?? (name === "image" && rest ? ["find", `Image ${rest}`, (place) => image(place, rest)] : SCREENS[0]);
  const mine = ++turn;
  leave?.();
  leave = null;
  show(nav, SCREENS.map(([screen, label]) =>
    h("a", { href: `#/${screen}`, "aria-current": screen === current[0] ? "page" : null }, label)));
  document.title = `${current[1]} – pixtoll console`;
  setKeys([]);
  main.setAttribute("aria-busy", "true");
  // A place of its own: a screen that was left while it loaded draws into nothing.
  const place = h("div");
  try {
    const left = await current[2](place, new URLSearchParams(words), rest);
    if (mine !== turn) return left?.();
    leave = left ?? null;
    show(main, place);
    window.scrollTo(0, 0);
  } catch (error) {
    if (mine === turn && operator() !== null) show(main, h("h1", {}, current[1]), h("p", { class: "problem", role: "alert" }, error.message));
  } finally {
    if (mine === turn) main.removeAttribute("aria-busy");
  }
}

function showSignIn(message) {
  const name = h("input", { required: true, maxlength: "100", autocomplete: "username", spellcheck: "false", autofocus: true });
  const token = h("input", { type: "password", required: true, autocomplete: "current-password" });
  const problem = h("p", { class: "problem", role: "alert" }, message);
  const go = h("button", { class: "primary" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    problem.textContent = "";
    try {
      await signIn(name.value.trim(), token.value.trim());
      await start();
      main.focus();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      go.disabled = false;
    }
  };
  document.title = "Sign in – pixtoll console";
  setKeys([]);
  setGlobalKeys([]);
  show(app, h("main", { class: "sign-in" }, h("form", { class: "card", onsubmit: submit },
    h("h1", {}, "pixtoll console"),
    field("Your name", name, "The log holds it beside each act."),
    field("Token", token, "The value of admin.token. It stays in this tab until you close it or sign out."),
    problem, go)));
  name.focus();
}

onSignOut(start);
addEventListener("hashchange", route);
start();
