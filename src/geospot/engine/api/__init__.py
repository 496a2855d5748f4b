"""Models behind an API: their names, three protocols through their own SDKs, prices, and one patient client."""
