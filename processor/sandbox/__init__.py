"""What the demo, local work and our tests need around the processor: both APIs, a registry, a broker, a shop.

The data path imports nothing of it, and no worker runs it. The stand-ins do not import the code that makes the
requests: a checker that shares code with what it checks repeats its mistakes.

    apis/           the stand-ins for Hakuna, Hako and a schema registry
    shop/           orders and stock with a history, written to Kafka
    demo/           all of it at work, and a check of every outcome
    simulation.py   stand-ins and a shop, as a command
"""
