"""The local engine behind the wire protocol of the Tinker SDK 0.38."""
