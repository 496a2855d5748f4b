"""The one seam: training loops speak the Tinker API; what stands behind it is opened here."""
