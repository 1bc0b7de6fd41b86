// Checks that the test token is as strict as USDC; otherwise the other cases would prove nothing.
import { encodePacked, keccak256, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { args } from "../chain.mjs";
import { check, same } from "../check.mjs";

// The values of USDC on Base Sepolia.
const SEPARATOR = "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818";
const TRANSFER_TYPE = "0x7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267";
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const USED = "FiatTokenV2: authorization is used or canceled";
const UNSIGNED = "FiatTokenV2: invalid signature";
const SOMEBODY = "0x2222222222222222222222222222222222222222";

export default async function token(world) {
  const { chain } = world;
  await world.case("the token has USDC's domain, order of events and refusals", [], async () => {
    const words = await Promise.all(["name", "version", "decimals", "DOMAIN_SEPARATOR"].map((name) => chain.read(name)));
    same(words, ["USDC", "2", 6, SEPARATOR], "name, version, decimals and domain");
    same(await chain.read("TRANSFER_WITH_AUTHORIZATION_TYPEHASH"), TRANSFER_TYPE, "the type of an authorization");
    const payer = await payerOf(world, 10n);
    const refusal = async (fields, form = "vrs", change = (signature) => signature) => {
      const { authorization, signature } = await chain.authorize(payer, { to: SOMEBODY, ...fields });
      return chain.refusal(chain.stranger, "transferWithAuthorization", args(authorization, change(signature), form));
    };
    for (const form of ["vrs", "bytes"]) {
      same(await refusal({}, form), undefined, `refusal of a good authorization (${form})`);
      same(await refusal({ value: 11n }, form), "ERC20: transfer amount exceeds balance", "refusal of too much");
      same(await refusal({ validBefore: 1n }, form), "FiatTokenV2: authorization is expired", "refusal of a late one");
      const future = BigInt(Math.floor(Date.now() / 1000) + 3600);
      same(await refusal({ validAfter: future }, form), "FiatTokenV2: authorization is not yet valid", "refusal of an early one");
      same(await refusal({}, form, highS), "ECRecover: invalid signature 's' value", "refusal of a high s");
      same(await refusal({ from: SOMEBODY }, form), UNSIGNED, "refusal of another's signature");
    }
    const signed = await chain.authorize(payer, { to: SOMEBODY });
    const height = await chain.height();
    const hash = await chain.submit(signed.authorization, signed.signature);
    const { transfers, used } = await chain.logs(height);
    same([transfers.length, used.length], [1, 1], "transfers and uses");
    same([used[0].transactionHash, used[0].args.authorizer], [hash, payer.address], "the transaction and the payer of the use");
    same(transfers[0].logIndex, used[0].logIndex + 1, "the log after the use");
    same(await refusal({ nonce: signed.authorization.nonce }), USED, "refusal of the same nonce");
  });
  await world.case("the token cancels authorizations; only the payee may receive", [], async () => {
    const payer = await payerOf(world, 10n);
    const signed = await chain.authorize(payer, { to: SOMEBODY });
    const height = await chain.height();
    await chain.cancel(payer, signed.authorization.nonce);
    const logs = await chain.logs(height);
    same([logs.canceled.length, logs.used.length, logs.transfers.length], [1, 0, 0], "cancellations, uses, transfers");
    const call = args(signed.authorization, signed.signature, "vrs");
    same(await chain.refusal(chain.stranger, "transferWithAuthorization", call), USED, "refusal of the cancelled one");
    const payee = await chain.funded();
    for (const form of ["vrs", "bytes"]) {
      const fields = { to: payee.address, nonce: keccak256(toHex(form)) };
      const { authorization, signature } = await chain.authorize(payer, fields, "ReceiveWithAuthorization");
      const receive = args(authorization, signature, form);
      const stranger = await chain.refusal(chain.stranger, "receiveWithAuthorization", receive);
      same(stranger, "FiatTokenV2: caller must be the payee", "refusal of a stranger's call");
      await chain.send(payee, "receiveWithAuthorization", receive);
    }
    same(await chain.balance(payee.address), 2n, "the payee's balance");
  });
  await world.case("the token asks a contract for its signature (EIP-1271)", [], async () => {
    const owner = privateKeyToAccount(generatePrivateKey());
    const address = await chain.deployWallet(owner);
    world.buyers.push({ address });
    await chain.mint(address, 10n);
    const signed = await chain.authorize(owner, { from: address, to: SOMEBODY });
    await chain.submit(signed.authorization, signed.signature, "bytes");
    same(await chain.balance(address), 9n, "the wallet's balance");
    const other = privateKeyToAccount(generatePrivateKey());
    const forged = await chain.authorize(other, { from: address, to: SOMEBODY });
    const call = args(forged.authorization, forged.signature, "bytes");
    same(await chain.refusal(chain.stranger, "transferWithAuthorization", call), UNSIGNED, "refusal of another's signature");
  });
}

async function payerOf(world, usdc) {
  const payer = privateKeyToAccount(generatePrivateKey());
  world.buyers.push(payer);
  await world.chain.mint(payer.address, usdc);
  return payer;
}

/// The other valid signature of the same key, with a high s.
function highS(signature) {
  const [r, s, v] = [signature.slice(0, 66), BigInt(`0x${signature.slice(66, 130)}`), parseInt(signature.slice(130), 16)];
  check(s < CURVE_ORDER / 2n, "the signature has a high s already");
  return encodePacked(["bytes32", "uint256", "uint8"], [r, CURVE_ORDER - s, v === 27 ? 28 : 27]);
}
