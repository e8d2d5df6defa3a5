// The views by the name under which a stream asks for one.

import { Label, Trajectory, Triggers } from "./views/decoded.js";
import { Roll } from "./views/heard.js";
import { Heat, Matrix, Raster } from "./views/neurons.js";
import { Skeleton, Video } from "./views/seen.js";
import { Traces } from "./views/traces.js";

export const VIEWS = {
  raster: Raster, heat: Heat, trajectory: Trajectory, label: Label, skeleton: Skeleton,
  video: Video, roll: Roll, matrix: Matrix, triggers: Triggers,
  traces: Traces,
};
