// The proxy between pixtoll and the facilitator. It passes everything on, until a case holds a call: then the
// case says whether the call reaches the facilitator, and what the server hears of it.
import { createServer } from "node:http";
import { check, within } from "./check.mjs";

export class Proxy {
  static async start(target) {
    const proxy = new Proxy();
    proxy.target = target;
    /// Every call that came: path, body, and what became of it.
    proxy.calls = [];
    proxy.holds = [];
    proxy.dead = new Set();
    proxy.server = createServer((request, response) => {
      proxy.handle(request, response).catch((error) => response.destroy(error));
    });
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  /// Holds the next call of this name ("verify" or "settle").
  hold(name) {
    const held = new Held(name);
    this.holds.push(held);
    return held;
  }

  /// Cuts every call of this name, unheard, until `revive`.
  kill(name) {
    this.dead.add(name);
  }

  revive(name) {
    this.dead.delete(name);
  }

  count(name) {
    return this.calls.filter((call) => call.name === name).length;
  }

  /// Every hold was met, and nothing is dead: the next case begins like the first.
  checkIdle() {
    check(this.holds.length === 0, `no call of ${this.holds[0]?.name} came`);
    check(this.dead.size === 0, "the facilitator is still cut off");
  }

  async handle(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const name = request.url.slice(1);
    const call = new Call(this.target, name, Buffer.concat(chunks).toString(), request.method, response);
    this.calls.push(call);
    if (this.dead.has(name)) return call.cut();
    const place = this.holds.findIndex((held) => held.name === name);
    if (place >= 0) return this.holds.splice(place, 1)[0].arrive(call);
    const { status, text } = await call.forward();
    call.answer(status, text);
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

/// One call of pixtoll.
class Call {
  constructor(target, name, body, method, response) {
    Object.assign(this, { target, name, body, method, response });
  }

  /// What the buyer signed: authorization and signature.
  get signed() {
    return JSON.parse(this.body).paymentPayload.payload;
  }

  /// Lets the facilitator do its work. The server hears nothing yet.
  async forward() {
    const init = { method: this.method, headers: { "content-type": "application/json" } };
    if (this.method === "POST") init.body = this.body;
    const answer = await fetch(`${this.target}/${this.name}`, init);
    return { status: answer.status, text: await answer.text() };
  }

  /// The server gets this answer.
  answer(status, text, type = "application/json") {
    this.response.writeHead(status, { "content-type": type });
    this.response.end(text);
  }

  /// The connection breaks, and the server gets no answer.
  cut() {
    this.response.destroy();
  }

  /// The connection breaks in the middle of the answer.
  tear(text) {
    this.response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    this.response.write(text.slice(0, text.length / 2), () => this.response.destroy());
  }
}

class Held {
  constructor(name) {
    this.name = name;
    this.call = new Promise((resolve) => (this.arrive = resolve));
  }

  arrived() {
    return within(`a call of ${this.name}`, this.call);
  }
}
