// Refunds: the chain proves the transfer that the operator makes, once, and what the payment bought is taken back.
import { createWalletClient } from "viem";
import { checkError } from "../buyers.mjs";
import { check, same, until } from "../check.mjs";
import { USDC } from "../chain.mjs";
import { picture } from "../pictures.mjs";
import { YEAR, checkToken, checkUpload, forms } from "./plain.mjs";

export default async function refund(world) {
  const { chain, server } = world;
  const run = (id, ...more) => server.run(["ledger", "refund", id, ...more]);

  /// The ledger id of a buyer's only payment.
  async function ledgerId(buyer) {
    await server.until(buyer.address, "settled");
    return (await server.run(["ledger", "show", buyer.address])).output.match(/^payment ([0-9a-f]{64})$/m)[1];
  }

  /// Calls the token with these bytes, as a wallet does that is given them. Returns the hash.
  async function call(account, data) {
    const wallet = createWalletClient({ ...chain.options, account });
    const hash = await wallet.sendTransaction({ to: USDC, data });
    const receipt = await chain.reads.waitForTransactionReceipt({ hash, timeout: 60_000 });
    same(receipt.status, "success", "the transfer's status");
    return hash;
  }

  /// Runs the proof until the block of the transfer is safe.
  function prove(id, hash) {
    return until("the refund to be proved", async () => {
      const { code, output } = await run(id, "--transaction", hash);
      if (code === 1 && output.includes("can still be replaced")) {
        await chain.control.mine({ blocks: 1 });
        return undefined;
      }
      return { code, output };
    });
  }

  await world.case("a token is refunded by the printed calldata, once", [YEAR], async () => {
    const buyer = await world.buyer(2, YEAR);
    const token = await checkToken(buyer, await buyer.buy("/api/upload/token"), YEAR);
    const id = await ledgerId(buyer);
    const due = await run(id, "--reason", "a test");
    same(due.code, 0, `the exit code of ledger refund (${due.output})`);
    const calldata = due.output.match(/^ {2}calldata {2}(0x[0-9a-f]+) /m)[1];
    check(due.output.includes(`ethereum:${USDC}@84532/transfer?address=${buyer.address}&uint256=${YEAR}`), due.output);
    const operator = await chain.funded();
    await chain.mint(operator.address, 2n * YEAR);
    // One unit less, and the payment itself, are no refunds.
    const short = await chain.send(operator, "transfer", [buyer.address, YEAR - 1n]);
    const { output: shown } = await server.run(["ledger", "show", id]);
    const paid = shown.match(/^ {2}transaction {2}(0x[0-9a-f]{64})/m)[1];
    for (const hash of [short, paid]) {
      const { code, output } = await prove(id, hash);
      same([code, output.includes("has no transfer of at least")], [1, true], `a wrong transaction\n${output}`);
    }
    same((await server.payment(buyer.address)).state, "settled", "the state before the refund");
    const made = await call(operator, calldata);
    same(await chain.balance(buyer.address), 2n * YEAR - 1n, "the buyer's balance");
    const proof = await prove(id, made);
    same(proof.code, 0, `the exit code of the proof (${proof.output})`);
    const again = await run(id, "--transaction", made);
    same([again.code, again.output.includes("was refunded already")], [1, true], `a second proof\n${again.output}`);
    checkError(await buyer.repeat(), 409, "payment_resolved", true);
    const upload = await fetch(`${server.url}/api/upload`, {
      method: "POST", headers: { "X-Upload-Token": token, "Content-Type": "image/png" }, body: picture(),
    });
    same([upload.status, (await upload.json()).error], [409, "payment_resolved"], "an upload with the token");
  });

  await world.case("an upload is refunded, and its transfer repays no other payment", [YEAR, YEAR], async () => {
    const [one, other] = [await world.buyer(2, YEAR), await world.buyer(2, YEAR)];
    const bytes = picture();
    const url = await checkUpload(one, await one.buy("/api/upload", forms.raw(bytes)), bytes, YEAR);
    await checkToken(other, await other.buy("/api/upload/token"), YEAR);
    const operator = await chain.funded();
    await chain.mint(operator.address, YEAR);
    const id = await ledgerId(one);
    same((await run(id)).code, 0, "the exit code of ledger refund");
    const made = await chain.send(operator, "transfer", [one.address, YEAR]);
    same((await prove(id, made)).code, 0, "the exit code of the proof");
    await until("the image to be gone", async () => (await fetch(url)).status === 404);
    const unrelated = await prove(await ledgerId(other), made);
    same([unrelated.code, unrelated.output.includes("has no transfer of at least")], [1, true], unrelated.output);
    same((await run(await ledgerId(other), "--cancel")).code, 0, "the exit code of --cancel");
    const { output } = await server.run(["ledger", "check"]);
    check(output.includes("2 payments are refunded for"), output);
  });
}
