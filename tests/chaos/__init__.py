"""A campaign of faults: kills, full disks, damaged outputs and dying servers, each in a toy run."""
