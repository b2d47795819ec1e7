"""What messages make happen: one function for each command. Stages own no state."""
