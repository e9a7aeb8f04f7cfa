"""Pages for reading and starting runs. Thin: what is measured or drawn lives in `lab`."""
