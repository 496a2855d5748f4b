"""Models and how pictures and text become their input."""
