// Calls the tools of a pixtoll server by the official SDK.
//
//   node client.mjs http BASE
//   node client.mjs stdio PIXTOLL BASE
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, ...rest] = process.argv.slice(2);
const home = process.env.HOME;

function transport() {
  if (kind === "http") {
    return new StreamableHTTPClientTransport(new URL(`${rest[0]}/mcp`));
  }
  const args = ["mcp", "--server", rest[1], "--root", `${home}/pictures`];
  return new StdioClientTransport({ command: rest[0], args, env: { HOME: home }, stderr: "inherit" });
}

const client = new Client({ name: "check-mcp", version: "1" });
await client.connect(transport());
assert.equal(client.getServerVersion().name, "pixtoll");
const call = (name, given = {}) => client.callTool({ name, arguments: given });

const { tools } = await client.listTools();
// On a user's machine images come from files and addresses, so there is no import.
assert.equal(tools.length, kind === "http" ? 9 : 8);
const tiers = await call("list_tiers");
assert.equal(tiers.isError, false);
assert.ok(tiers.structuredContent.tiers.some((tier) => tier.name === "year"));

if (kind === "http") {
  const link = await call("upload_image", { tier: "free" });
  assert.match(link.structuredContent.curl, /^curl -T /);
  const asked = await call("upload_image", { tier: "year" });
  assert.equal(asked.isError, true);
  assert.equal(asked.structuredContent.x402Version, 2);
  assert.deepEqual(JSON.parse(asked.content[0].text), asked.structuredContent);
} else {
  for (const tier of ["free", "year"]) {
    const image = await call("upload_image", { path: "small.png", tier });
    assert.equal(image.isError, false, JSON.stringify(image));
    assert.equal((await fetch(image.structuredContent.url)).status, 200);
  }
  const outside = await call("upload_image", { path: "../outside.png" });
  assert.equal(outside.structuredContent.error, "invalid_arguments");
}
await client.close();
console.log(`SDK: lists and calls tools over ${kind === "http" ? "HTTP" : "stdio"}`);
