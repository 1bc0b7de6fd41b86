// The proxy between pixtoll and the facilitator, and between pixtoll and the chain's node. It forwards everything. A case
// can hold a call, and then decides whether the call is forwarded and which response pixtoll receives.
import { createServer } from "node:http";
import { check, within } from "./check.mjs";

export class Proxy {
  static async start(target) {
    const proxy = new Proxy();
    proxy.target = target;
    /// All calls that were received.
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

  /// Holds the next call of this name ("verify" or "settle") for this buyer.
  hold(name, { address }) {
    const held = new Held(name, address);
    this.holds.push(held);
    return held;
  }

  /// Breaks every call of this name ("rpc" for reads of the chain) without forwarding it, until `revive`.
  kill(name) {
    this.dead.add(name);
  }

  revive(name) {
    this.dead.delete(name);
  }

  /// The number of calls of this name for this buyer.
  count(name, { address }) {
    return this.calls.filter((call) => call.name === name && call.payer === address).length;
  }

  /// Checks that every hold was used and that no call is broken any more, so that the next case starts clean.
  checkIdle() {
    check(this.holds.length === 0, `pixtoll did not call ${this.holds[0]?.name}, which the case holds`);
    check(this.dead.size === 0, `the case still breaks calls of ${[...this.dead].join(" and ")}`);
  }

  async handle(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const name = request.url.slice(1) || "rpc";
    const call = new Call(name, this.target + request.url, Buffer.concat(chunks).toString(), request.method, response);
    [call.path, call.headers] = [request.url, request.headers];
    this.calls.push(call);
    if (this.dead.has(name)) return call.cut();
    const place = this.holds.findIndex((held) => held.name === name && held.payer === call.payer);
    if (place >= 0) return this.holds.splice(place, 1)[0].arrive(call);
    const { status, text } = await call.forward();
    call.answer(status, text);
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

/// One call by pixtoll.
class Call {
  constructor(name, url, body, method, response) {
    Object.assign(this, { name, url, body, method, response });
  }

  /// The authorization and the signature of the payment.
  get signed() {
    return JSON.parse(this.body).paymentPayload?.payload;
  }

  get payer() {
    return this.method === "POST" ? this.signed?.authorization.from : undefined;
  }

  /// Forwards the call. pixtoll receives no response yet.
  async forward() {
    const init = { method: this.method, headers: { "content-type": "application/json" } };
    if (this.method === "POST") init.body = this.body;
    const answer = await fetch(this.url, init);
    return { status: answer.status, text: await answer.text() };
  }

  /// Sends pixtoll this response.
  answer(status, text, type = "application/json") {
    this.response.writeHead(status, { "content-type": type });
    this.response.end(text);
  }

  /// Breaks the connection, so that pixtoll receives no response.
  cut() {
    this.response.destroy();
  }

  /// Breaks the connection in the middle of the response.
  tear(text) {
    this.response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    this.response.write(text.slice(0, text.length / 2), () => this.response.destroy());
  }
}

class Held {
  constructor(name, payer) {
    Object.assign(this, { name, payer });
    this.call = new Promise((resolve) => (this.arrive = resolve));
  }

  arrived() {
    return within(`a call of ${this.name}`, this.call);
  }
}
