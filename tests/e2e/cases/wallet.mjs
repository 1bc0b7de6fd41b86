// Payments by a contract wallet, which accepts the signatures of its owner (EIP-1271).
import { serializeErc6492Signature } from "viem";
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
    same(world.proxy.count("verify", buyer), 0, "the calls of verify, since the node has asked the contract");
  });
  await world.case("v2: a contract wallet that is not deployed buys a token, and a second one as a deployed one", [YEAR, YEAR], async () => {
    const owner = privateKeyToAccount(generatePrivateKey());
    const buyer = await undeployed(world, owner);
    const token = await checkToken(buyer, await buyer.buy("/api/upload/token"), YEAR);
    same(await world.chain.isDeployed(buyer.address), true, "whether the wallet is deployed now");
    const again = await buyer.repeat();
    same([again.status, again.json.token], [200, token], "what the repeated payment returns");
    const later = await undeployed(world, owner);
    await checkToken(later, await later.buy("/api/upload/token"), YEAR);
  });
  await world.case("v2: a contract wallet that is not deployed, with signatures that it rejects", [], async () => {
    const owner = privateKeyToAccount(generatePrivateKey());
    const stranger = privateKeyToAccount(generatePrivateKey());
    const other = await world.chain.undeployedWallet(stranger);
    for (const [signer, changes] of [
      [stranger, {}],
      // The call deploys another wallet, nothing, or is none of a factory.
      [owner, { data: other.data }],
      [owner, { data: "0x12345678" }],
      [owner, { factory: stranger.address }],
    ]) {
      const buyer = await undeployed(world, owner, signer, changes);
      checkError(await buyer.buy("/api/upload/token"), 402, "payment_invalid", false);
      same(world.proxy.count("verify", buyer), 0, "the calls of verify");
      same(await world.chain.isDeployed(buyer.address), false, "whether the wallet is deployed");
    }
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

/// A buyer that pays from a contract wallet of `owner` that is not deployed (ERC-6492). `changes` spoil the deployment.
async function undeployed(world, owner, signer = owner, changes = {}) {
  const { address, ...deployment } = await world.chain.undeployedWallet(owner);
  const { factory, data } = { ...deployment, ...changes };
  const wrap = (signature) => serializeErc6492Signature({ address: factory, data, signature });
  return world.buyer(2, YEAR, { wallet: address, account: signer, wrap });
}
