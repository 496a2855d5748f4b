"""The real Tinker SDK behind the seam: the hosted service, or any server that speaks its protocol."""
