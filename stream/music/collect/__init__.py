"""Recording a camera and a MIDI keyboard as a training set."""
