"""Uploads an image, pays for it, and prints its link:

    python upload.py photo.png [tier]

PIXTOLL_SERVER is the server. WALLET_KEY is the private key of the paying account; without it a new key pays, which has
money at a sandbox only. NETWORK is the chain to pay on: 84532 is Base Sepolia, 8453 is Base.
"""
import asyncio
import os
import pathlib
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


async def main(file="photo.png", tier="year"):
    # Settlement may take as long as a block of the chain.
    async with x402HttpxClient(payer(), timeout=120) as client:
        answer = await client.post(f"{SERVER}/api/upload/{tier}", content=pathlib.Path(file).read_bytes())
    body = answer.json()
    if answer.status_code != 200:
        sys.exit(f"{answer.status_code} {body['error']}: {body['message']} (charged: {body['charged']})")
    print(body["url"])


asyncio.run(main(*sys.argv[1:]))
