"""Lab Streaming Layer: `lsl.in` takes a stream from it, `lsl` puts streams of a run onto it."""
