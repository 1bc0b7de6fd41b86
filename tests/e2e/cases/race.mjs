// The state of the chain changes between verify and settle, by the payer or by somebody else.
import { checkError, checkLink } from "../buyers.mjs";
import { same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { YEAR, checkToken, checkUpload, forms } from "./plain.mjs";

const NO_FUNDS = "invalid_exact_evm_insufficient_balance";
const ANYBODY = "0x2222222222222222222222222222222222222222";

export default async function race(world) {
  const { chain, proxy, server } = world;

  /// Buys and holds settle, runs `meanwhile`, and lets settle go on. Returns the client's final response.
  async function buyWhile(buyer, order, meanwhile, settle) {
    return buyer.insist(await buyAtOnce(buyer, order, meanwhile, settle));
  }

  /// The same, but returns the client's first response.
  async function buyAtOnce(buyer, [path, init], meanwhile, settle) {
    const held = proxy.hold("settle", buyer);
    const buying = buyer.buy(path, init);
    const call = await held.arrived();
    await meanwhile(call.signed);
    await settle(call);
    return buying;
  }

  const token = ["/api/upload/token"];
  const goOn = async (call) => {
    const { status, text } = await call.forward();
    call.answer(status, text);
  };
  const cut = (call) => call.cut();
  const submit = (form) => (signed) => chain.submit(signed.authorization, signed.signature, form);

  for (const version of [2, 1]) {
    await world.case(`v${version}: submitted by others, then refused by the facilitator: sold`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      await checkToken(buyer, await buyWhile(buyer, token, submit("vrs"), goOn), YEAR);
    });
    await world.case(`v${version}: submitted by others, and the facilitator is gone: sold`, [YEAR], async () => {
      const buyer = await world.buyer(version, YEAR);
      const bytes = picture();
      const order = ["/api/upload", forms.multipart(bytes)];
      await checkUpload(buyer, await buyWhile(buyer, order, submit("bytes"), cut), bytes, YEAR);
    });
    await world.case(`v${version}: cancelled by the payer: buys nothing`, [], async () => {
      const buyer = await world.buyer(version, YEAR);
      const cancel = ({ authorization }) => chain.cancel(buyer.account, authorization.nonce);
      await checkNothing(buyer, await buyWhile(buyer, token, cancel, goOn), "authorization_canceled");
    });
    await world.case(`v${version}: the nonce used for another transfer: buys nothing`, [], async () => {
      const buyer = await world.buyer(version, YEAR);
      const spend = async ({ authorization: { nonce } }) => {
        const { authorization, signature } = await chain.authorize(buyer.account, { to: ANYBODY, value: YEAR, nonce });
        await chain.submit(authorization, signature);
      };
      const order = ["/api/upload", forms.raw(picture())];
      await checkNothing(buyer, await buyWhile(buyer, order, spend, cut), "authorization_spent_elsewhere");
    });
    await world.case(`v${version}: the nonce used to pay less than the price: buys nothing`, [YEAR - 1n], async () => {
      const buyer = await world.buyer(version, YEAR);
      const spend = async ({ authorization: { nonce } }) => {
        const fields = { to: world.payTo, value: YEAR - 1n, nonce };
        const { authorization, signature } = await chain.authorize(buyer.account, fields);
        await chain.submit(authorization, signature);
        world.orphaned += YEAR - 1n;
      };
      await checkNothing(buyer, await buyWhile(buyer, token, spend, goOn), "authorization_spent_elsewhere");
    });
  }
  await world.case("v2: the wallet emptied: buys nothing", [], async () => {
    const buyer = await world.buyer(2, YEAR);
    const order = ["/api/upload", forms.raw(picture())];
    await checkNothing(buyer, await buyWhile(buyer, order, () => empty(buyer), goOn), NO_FUNDS);
  });
  await world.case("v2: refused for an empty wallet, then paid after all: delivered", [YEAR], async () => {
    const buyer = await world.buyer(2, YEAR);
    const order = ["/api/upload", forms.raw(picture())];
    await checkNothing(buyer, await buyWhile(buyer, order, () => empty(buyer), goOn), NO_FUNDS);
    await chain.mint(buyer.address, YEAR);
    await submit("vrs")(buyer.signed);
    // The upload is gone. The payer gets a token with the same rights instead.
    const given = await checkToken(buyer, await buyer.repeat(), YEAR);
    const bytes = picture();
    await checkLink((await buyer.upload(given, bytes)).json.url, bytes);
  });
  // In version 1 the facilitator's reason is free text, which decides nothing: the authorization has to expire.
  await world.case("v1: the wallet emptied: nothing is sold, the outcome is unknown", [], async () => {
    const buyer = await world.buyer(1, YEAR);
    const order = ["/api/upload", forms.raw(picture())];
    checkError(await buyAtOnce(buyer, order, () => empty(buyer), goOn), 503, "settlement_pending", null);
    checkError(await buyer.repeat(), 503, "settlement_pending", null);
    const payment = await server.payment(buyer.address);
    same([payment.state, payment.image], ["unknown", undefined], "the payment in the ledger");
    world.undecided.push(buyer);
  });
  await world.case("v1: emptied and filled again: settled by the reconciler and sold", [YEAR], async () => {
    const buyer = await world.buyer(1, YEAR);
    const bytes = picture();
    const order = ["/api/upload", forms.raw(bytes)];
    checkError(await buyAtOnce(buyer, order, () => empty(buyer), goOn), 503, "settlement_pending", null);
    await chain.mint(buyer.address, YEAR);
    await server.until(buyer.address, "settled");
    await checkUpload(buyer, await buyer.insist(await buyer.repeat()), bytes, YEAR);
  });

  async function empty(buyer) {
    await chain.funded(buyer.account);
    await chain.send(buyer.account, "transfer", [ANYBODY, await chain.balance(buyer.address)]);
  }

  /// Checks that the payment has failed, that every repeated request says so, and that no upload is stored.
  async function checkNothing(buyer, answer, reason) {
    buyer.checkFailure(answer, reason);
    buyer.checkFailure(await buyer.repeat(), reason);
    const payment = await server.payment(buyer.address);
    same([payment.state, payment.reason, payment.image], ["failed", reason, undefined], "the payment in the ledger");
    same(world.countFiles(), world.filesBefore, "files in the store");
  }
}
