"""Traffic of deployments: HAProxy carries it, this decides what it knows."""
