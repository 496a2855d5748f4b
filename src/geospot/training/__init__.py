"""What the two loops stand on: rollouts, advantages, datums, updates, held-out evaluation, the run itself."""
