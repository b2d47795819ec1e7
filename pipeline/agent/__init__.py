"""The agent beside one engine: launches, reconciles, restarts, probes.

How a container comes up here: an order `launch` reaches `orders`, which works on it under the
container's lock (`reconciler`), has its image pulled (`pulling`), creates and starts it on the
engine, and writes each step as a guarded move of its record: PULLING, CREATED, RUNNING. Meanwhile
`service` compares what the engine shows with the records, and `container_care` restarts, probes
and repairs.
"""
