// Signs COUNT payments with the npm client, each for a challenge of its own. After a line on standard input, sends them
// over CONNECTIONS connections, each of which sends the next one when it has its answer. Prints the seconds that took.
//
//   node load.mjs URL COUNT CONNECTIONS
import "./crypto.mjs";
import { connect } from "node:net";
import { createInterface } from "node:readline/promises";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const [url, count, connections] = [new URL(process.argv[2]), Number(process.argv[3]), Number(process.argv[4])];
const { hostname, port, pathname } = url;

async function sign() {
  const client = new x402Client().register("eip155:84532", new ExactEvmScheme(privateKeyToAccount(generatePrivateKey())));
  const http = new x402HTTPClient(client);
  const challenge = await fetch(url, { method: "POST" });
  const required = http.getPaymentRequiredResponse((name) => challenge.headers.get(name), await challenge.json());
  const headers = http.encodePaymentSignatureHeader(await client.createPaymentPayload(required));
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(
    `POST ${pathname} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n${lines.join("")}content-length: 0\r\n\r\n`,
  );
}

const requests = [];
for (let number = 0; number < count; number++) requests.push(await sign());
console.log("signed");
await createInterface({ input: process.stdin }).question("");

let [next, failed] = [0, 0];

/// Sends requests one after the other over one connection.
function send() {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port, noDelay: true });
    let received = "";
    const more = () => {
      if (next === requests.length) {
        socket.end();
        resolve();
      } else {
        socket.write(requests[next++]);
      }
    };
    socket.on("connect", more);
    socket.on("error", reject);
    socket.on("data", (data) => {
      received += data.toString("latin1");
      const head = received.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(received)?.[1] ?? NaN);
      if (received.length < head + 4 + length) return;
      if (!/^HTTP\/1.1 200 [^]*"token"/.test(received)) {
        failed += 1;
        console.error(received);
      }
      received = "";
      more();
    });
  });
}

const begun = process.hrtime.bigint();
await Promise.all(Array.from({ length: connections }, send));
console.log(JSON.stringify({ seconds: Number(process.hrtime.bigint() - begun) / 1e9, failed }));
