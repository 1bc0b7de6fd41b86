"""Buys an upload link and prints it. Whoever has the link uploads with it, by curl -T photo.png LINK:

    python link.py [images] [days] [tier]

PIXTOLL_SERVER is the server. WALLET_KEY is the private key of the paying account; without it a new key pays, which has
money at a sandbox only. NETWORK is the chain to pay on: 84532 is Base Sepolia, 8453 is Base.
"""
import asyncio
import os
import sys

from eth_account import Account
from x402 import max_amount, x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.exact import ExactEvmScheme

SERVER = os.environ.get("PIXTOLL_SERVER", "http://127.0.0.1:4020")
# 0.05 USDC, in its smallest unit.
MOST = 50_000


def payer():
    key = os.environ.get("WALLET_KEY")
    account = Account.from_key(key) if key else Account.create()
    client = x402Client().register(f"eip155:{os.environ.get('NETWORK', '84532')}", ExactEvmScheme(account))
    return client.register_policy(max_amount(MOST))


async def main(images="3", days="30", tier="year"):
    # Settlement may take as long as a block of the chain.
    async with x402HttpxClient(payer(), timeout=120) as client:
        query = {"images": images, "days": days, "tier": tier}
        answer = await client.post(f"{SERVER}/api/links", params=query)
    body = answer.json()
    if answer.status_code != 200:
        sys.exit(f"{answer.status_code} {body['error']}: {body['message']} (charged: {body['charged']})")
    print(body["url"])


asyncio.run(main(*sys.argv[1:]))
