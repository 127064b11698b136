"""What the demo, local work and our tests need around the processor: both APIs, a registry, a broker, a shop.

Nothing here runs in production, and nothing of the data path imports it. The stand-ins do not import the code
that makes the requests either: a checker that shares code with what it checks agrees with its mistakes.

    apis/           the stand-ins for Hakuna, Hako and a schema registry
    shop/           orders and stock with a history, written to Kafka
    demo/           all of it at work, and a judge of what came of it
    simulation.py   stand-ins and a shop, as a command
"""
