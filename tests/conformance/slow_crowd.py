"""Clients that open HTTPS connections and are slow: `slow_crowd.py HOST CA COUNT TOKEN`.

A quarter each never shakes hands, says nothing, dribbles the head of a request, and dribbles a body. Prints how many
came in, and then, once the service ended every one of them, how many there were at once.
"""

import asyncio
import ssl
import sys

HOST, CA, COUNT, TOKEN = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
TLS = ssl.create_default_context(cafile=CA)
HEAD = f"GET /devices/x?api-version=2021-04-12 HTTP/1.1\r\nHost: {HOST}\r\n".encode()
BODY = (f"PUT /devices/slow-{{}}?api-version=2021-04-12 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {TOKEN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{")
open_now, most = 0, 0


async def client(number, came, turns):
    global open_now, most
    kind = number % 4
    async with turns:
        reader, writer = await asyncio.open_connection(HOST, 443, ssl=TLS if kind else None)
    open_now += 1
    most = max(most, open_now)
    came.release()
    dribble = {2: HEAD, 3: BODY.format(number).encode()}.get(kind)
    try:
        if dribble:
            writer.write(dribble)
        while True:
            try:
                # The end of the connection, or an answer that says that it ends.
                if not await asyncio.wait_for(reader.read(4096), 1):
                    break
            except asyncio.TimeoutError:
                if dribble:
                    writer.write(b"X" if kind == 2 else b" ")
    except (ConnectionError, ssl.SSLError):
        pass
    open_now -= 1
    writer.transport.abort()


async def main():
    came, turns = asyncio.Semaphore(0), asyncio.Semaphore(100)
    clients = [asyncio.create_task(client(number, came, turns)) for number in range(COUNT)]
    for _ in range(COUNT):
        await came.acquire()
    print(f"came {COUNT}", flush=True)
    async with asyncio.timeout(150):
        await asyncio.gather(*clients)
    print(f"most {most}", flush=True)

asyncio.run(main())
