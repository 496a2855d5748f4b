"""The one seam: training loops speak the Tinker API (`protocols`); `open` opens what stands behind it."""
