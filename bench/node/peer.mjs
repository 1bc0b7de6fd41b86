// The peer: @x402/express as its documentation shows it. It sells what pixtoll sells at POST /api/upload/token/year,
// a random token, and remembers nothing.
import { randomBytes } from "node:crypto";
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";

const network = "eip155:84532";
const facilitator = new HTTPFacilitatorClient({ url: process.env.FACILITATOR_URL });
const resources = new x402ResourceServer(facilitator).register(network, new ExactEvmScheme());
const accepts = { scheme: "exact", price: "$0.01", network, payTo: process.env.PAY_TO, maxTimeoutSeconds: 300 };
const app = express();
app.use(paymentMiddleware({ "POST /api/upload/token/year": { accepts, description: "An upload token" } }, resources));
app.post("/api/upload/token/year", (_, response) => {
  response.json({ token: randomBytes(20).toString("hex") });
});
const server = app.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
server.keepAliveTimeout = 60_000;
