// Lost responses and killed processes: a payment still causes one transfer and one result, with or without a retry.
import { checkError } from "../buyers.mjs";
import { check, same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { PERMANENT, YEAR, checkToken, checkUpload, forms } from "./plain.mjs";

const PRETENDED = `0x${"cd".repeat(32)}`;

export default async function lost(world) {
  const { chain, proxy, node, server } = world;

  // A request that comes while the reconciler holds the payment gets a response that asks to retry.
  const insist = async (buyer) => buyer.insist(await buyer.repeat());

  /// Buys until pixtoll calls settle, and returns that call.
  async function buyUntilSettle(buyer, path, init) {
    const held = proxy.hold("settle", buyer);
    const buying = buyer.buy(path, init).catch((error) => ({ error }));
    return { buying, call: await held.arrived() };
  }

  /// The facilitator settles, and its response is lost in one of several ways.
  const losses = {
    "the connection cut": (call) => call.cut(),
    "the answer torn": (call, { text }) => call.tear(text),
    "a 502 of another's": (call) => call.answer(502, "<html>Bad Gateway</html>", "text/html"),
    "a refusal under a 500": (call) => call.answer(500, JSON.stringify({ success: false, errorReason: "insufficient_funds" })),
    "settlement_pending": (call, { text }) => {
      const { transaction } = JSON.parse(text);
      call.answer(200, JSON.stringify({ success: false, errorReason: "settlement_pending", transaction }));
    },
    "success without a hash": (call) => call.answer(200, JSON.stringify({ success: true, transaction: "" })),
  };
  for (const [name, lose] of Object.entries(losses)) {
    await world.case(`v2: ${name} after the transfer: sold because the chain shows it`, [YEAR], async () => {
      const buyer = await world.buyer(2, YEAR);
      const { buying, call } = await buyUntilSettle(buyer, "/api/upload/token");
      lose(call, await call.forward());
      const token = await checkToken(buyer, await buyer.insist(await buying), YEAR);
      same(await checkToken(buyer, await insist(buyer), YEAR), token, "the token of the retry");
    });
  }

  for (const version of [2, 1]) {
    await world.case(`v${version}: response lost, node unreachable: 503, then a retry succeeds`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const bytes = picture();
      await loseAnswerAndSight(buyer, bytes);
      const url = await checkUpload(buyer, await insist(buyer), bytes, YEAR);
      same(await checkUpload(buyer, await insist(buyer), bytes, YEAR), url, "the link of the second retry");
    });
    await world.case(`v${version}: the same without a retry: the reconciler finds it`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const bytes = picture();
      await loseAnswerAndSight(buyer, bytes);
      same((await server.until(buyer.address, "settled")).image?.includes("(live)"), true, "an image is live");
      same(proxy.count("settle", buyer), 1, "calls of settle");
      await checkUpload(buyer, await insist(buyer), bytes, YEAR);
    });
    await world.case(`v${version}: settle doesn't arrive: pixtoll calls it again`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      proxy.kill("settle");
      checkError(await buyer.buy("/api/upload/token"), 503, "settlement_pending", null);
      checkError(await buyer.repeat(), 503, "settlement_pending", null);
      proxy.revive("settle");
      await checkToken(buyer, await insist(buyer), YEAR);
    });
    await world.case(`v${version}: settle is lost, others submit: the reconciler finds it`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      proxy.kill("settle");
      checkError(await buyer.buy("/api/upload/token"), 503, "settlement_pending", null);
      await chain.submit(buyer.signed.authorization, buyer.signed.signature);
      await server.until(buyer.address, "settled");
      proxy.revive("settle");
      await checkToken(buyer, await insist(buyer), YEAR);
    });
    await world.case(`v${version}: the client disconnects: settle goes on, a retry succeeds`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const leaving = new AbortController();
      const { buying, call } = await buyUntilSettle(buyer, "/api/upload/token", { signal: leaving.signal });
      leaving.abort();
      check((await buying).error, "the client received a response");
      const { status, text } = await call.forward();
      call.answer(status, text);
      await server.until(buyer.address, "settled");
      await checkToken(buyer, await insist(buyer), YEAR);
    });
    await world.case(`v${version}: SIGKILL after the transfer, then a retry`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const bytes = picture();
      const { buying, call } = await buyUntilSettle(buyer, "/api/upload", forms.raw(bytes));
      await call.forward();
      await dieAndRise(buying);
      await checkUpload(buyer, await insist(buyer), bytes, YEAR);
    });
    await world.case(`v${version}: SIGKILL after the transfer, without a retry`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const bytes = picture();
      const { buying, call } = await buyUntilSettle(buyer, "/api/upload", forms.multipart(bytes));
      await call.forward();
      await dieAndRise(buying);
      await server.until(buyer.address, "settled");
      same(proxy.count("settle", buyer), 1, "calls of settle");
      await checkUpload(buyer, await insist(buyer), bytes, YEAR);
    });
    await world.case(`v${version}: SIGKILL before the transfer, and settle arrives twice`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const { buying, call } = await buyUntilSettle(buyer, "/api/upload/token");
      await dieAndRise(buying);
      const token = await checkToken(buyer, await insist(buyer), YEAR);
      // Now the call of the killed process arrives.
      same(JSON.parse((await call.forward()).text).success, false, "success of the late call");
      same(await checkToken(buyer, await insist(buyer), YEAR), token, "the token");
    });
    await world.case(`v${version}: SIGKILL before verify: no transfer, and the retry pays`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const held = proxy.hold("verify", buyer);
      const buying = buyer.buy("/api/upload/token").catch((error) => ({ error }));
      await held.arrived();
      await dieAndRise(buying);
      same(await chain.balance(buyer.address), YEAR, "the buyer's balance");
      await checkToken(buyer, await insist(buyer), YEAR);
    });
    await world.case(`v${version}: no facilitator at verify: 503 uncharged, and the retry pays`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      proxy.kill("verify");
      checkError(await buyer.buy("/api/upload/token"), 503, "facilitator_unavailable", false);
      proxy.revive("verify");
      same(await chain.balance(buyer.address), YEAR, "the buyer's balance");
      await checkToken(buyer, await insist(buyer), YEAR);
    });
    await world.case(`v${version}: eight copies at once give one transfer and one token`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      buyer.withholds = true;
      await buyer.buy("/api/upload/token");
      const answers = await Promise.all(Array.from({ length: 8 }, () => buyer.repeat()));
      const tokens = await Promise.all(answers.map(async (answer) => checkToken(buyer, await buyer.insist(answer), YEAR)));
      same(new Set(tokens).size, 1, "the number of different tokens");
    });
  }

  await world.case("v2: settle times out: 503, then sold; the late response is ignored", [YEAR], async () => {
    const buyer = await world.buyer(2, YEAR);
    const { buying, call } = await buyUntilSettle(buyer, "/api/upload/token");
    const { status, text } = await call.forward();
    checkError(await buying, 503, "settlement_pending", null);
    const token = await checkToken(buyer, await insist(buyer), YEAR);
    call.answer(status, text);
    same(await checkToken(buyer, await insist(buyer), YEAR), token, "the token of the retry");
  });
  await world.case("v2: a false success for an expensive tier: settled before it is sold", [PERMANENT], async () => {
    const buyer = await world.buyer(2, PERMANENT);
    const { buying, call } = await buyUntilSettle(buyer, "/api/upload/token/permanent");
    call.answer(200, JSON.stringify({ success: true, transaction: PRETENDED, network: "eip155:84532", payer: buyer.address }));
    await checkToken(buyer, await buyer.insist(await buying), PERMANENT);
  });
  await world.case("v2: a second signature under an Idempotency-Key is not settled", [YEAR], async () => {
    const buyer = await world.buyer(2, 2n * YEAR);
    const headers = { "idempotency-key": "one-key-for-one-order" };
    const token = await checkToken(buyer, await buyer.buy("/api/upload/token", { headers }), YEAR);
    buyer.sent.length = 0;
    const again = await buyer.buy("/api/upload/token", { headers });
    same([again.status, again.json.token], [200, token], "status and token of the second order");
    same(await chain.balance(buyer.address), YEAR, "the buyer's balance");
  });
  await world.case("v2: SIGKILL after the transfer, then another signature under the key", [YEAR], async () => {
    const buyer = await world.buyer(2, 2n * YEAR);
    const headers = { "idempotency-key": "one-key-for-one-order" };
    const { buying, call } = await buyUntilSettle(buyer, "/api/upload/token", { headers });
    await call.forward();
    await dieAndRise(buying);
    buyer.sent.length = 0;
    const again = await buyer.buy("/api/upload/token", { headers });
    await checkToken(buyer, await buyer.insist(again), YEAR);
    same(await chain.balance(buyer.address), YEAR, "the buyer's balance");
  });
  await world.case("v2: data from the chain doesn't give the token to others", [YEAR], async () => {
    const buyer = await world.buyer(2, YEAR);
    const token = await checkToken(buyer, await buyer.buy("/api/upload/token"), YEAR);
    const stranger = await buyer.repeatWithoutProof();
    checkError(stranger, 409, "payment_known", true);
    check(!stranger.bytes.includes(token), "the stranger got the token");
  });

  /// The transfer happens, the response is lost, and the node is unreachable: the outcome is unknown, and the response
  /// must not ask to pay again.
  async function loseAnswerAndSight(buyer, bytes) {
    const { buying, call } = await buyUntilSettle(buyer, "/api/upload", forms.raw(bytes));
    node.kill("rpc");
    await call.forward();
    call.cut();
    checkError(await buying, 503, "settlement_pending", null);
    node.revive("rpc");
  }

  async function dieAndRise(buying) {
    await server.kill();
    check((await buying).error, "the client received a response of a killed server");
    await server.start();
  }
}
