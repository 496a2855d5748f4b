"""The local engine: the Tinker API's methods over torch, transformers and peft in this process."""
