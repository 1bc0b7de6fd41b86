// A load balancer without sticky sessions: requests go to the replicas in turn. A replica that refuses the connection is
// skipped; one that dies during a request breaks the client's connection.
import { Agent, createServer, request } from "node:http";

export class Balancer {
  /// `ports` are the ports of the replicas.
  static async start(ports) {
    const balancer = new Balancer();
    Object.assign(balancer, { ports, turn: 0, agent: new Agent({ keepAlive: false }) });
    balancer.server = createServer((incoming, outgoing) => balancer.handle(incoming, outgoing));
    await new Promise((resolve) => balancer.server.listen(0, "127.0.0.1", resolve));
    balancer.url = `http://127.0.0.1:${balancer.server.address().port}`;
    return balancer;
  }

  async handle(incoming, outgoing) {
    const chunks = [];
    try {
      for await (const chunk of incoming) chunks.push(chunk);
    } catch {
      return;
    }
    this.pass(incoming, Buffer.concat(chunks), outgoing, this.ports.length);
  }

  pass(incoming, body, outgoing, tries) {
    const port = this.ports[this.turn++ % this.ports.length];
    const { method, url, headers } = incoming;
    const options = { host: "127.0.0.1", port, method, path: url, headers, agent: this.agent };
    const call = request(options, (answer) => {
      outgoing.writeHead(answer.statusCode, { ...answer.headers, "x-replica": String(port) });
      answer.pipe(outgoing);
      answer.on("aborted", () => outgoing.destroy());
      answer.on("error", () => outgoing.destroy());
    });
    call.on("error", (error) => {
      if (error.code === "ECONNREFUSED" && tries > 1) return this.pass(incoming, body, outgoing, tries - 1);
      outgoing.destroy();
    });
    call.end(body);
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
