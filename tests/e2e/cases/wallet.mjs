// Payments by a contract wallet, which accepts the signatures of its owner (EIP-1271).
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { checkError } from "../buyers.mjs";
import { same } from "../check.mjs";
import { picture } from "../pictures.mjs";
import { checkToken, checkUpload, forms, YEAR } from "./plain.mjs";

export default async function wallet(world) {
  for (const version of [2, 1]) {
    await world.case(`v${version} client: a contract wallet buys a token and an upload`, [YEAR, YEAR], async () => {
      for (const kind of ["token", "upload"]) {
        const buyer = await contract(world, version);
        if (kind === "token") {
          const token = await checkToken(buyer, await buyer.buy("/api/upload/token"), YEAR);
          const again = await buyer.repeat();
          same([again.status, again.json.token], [200, token], "what the repeated payment returns");
        } else {
          const bytes = picture();
          await checkUpload(buyer, await buyer.buy("/api/upload", forms.raw(bytes)), bytes, YEAR);
        }
      }
    });
  }
  await world.case("a contract wallet, with the signature of another account", [], async () => {
    const buyer = await contract(world, 2, privateKeyToAccount(generatePrivateKey()));
    checkError(await buyer.buy("/api/upload/token"), 402, "payment_invalid", false);
    same(world.proxy.count("verify", buyer), 1, "the calls of verify, since only the contract can judge");
    same(world.proxy.count("settle", buyer), 0, "the calls of settle");
  });
  await world.case("a plain wallet, with the signature of another account", [], async () => {
    const victim = privateKeyToAccount(generatePrivateKey());
    const buyer = await world.buyer(2, YEAR, { wallet: victim.address });
    checkError(await buyer.buy("/api/upload/token"), 402, "payment_invalid", false);
    same(world.proxy.count("verify", buyer), 0, "the calls of verify");
  });
}

/// A buyer that pays from a contract wallet, which it owns unless `signer` is another account.
async function contract(world, version, signer) {
  const owner = privateKeyToAccount(generatePrivateKey());
  const address = await world.chain.deployWallet(owner);
  return world.buyer(version, YEAR, { wallet: address, account: signer ?? owner });
}
