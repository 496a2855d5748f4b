"""The local engine: the Tinker API's methods over torch, transformers and peft in this process."""

from geospot.engine.local.waiting import share_cores_here

share_cores_here()  # before torch is imported: configurations, which every command begins with, import this package
