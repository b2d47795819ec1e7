"""What an agent does about builds."""
