"""Movies larger than memory, on dask.

- `store`: frames in chunks on disk, and a log of what each chunk holds
- `tasks`: work that is done elsewhere and comes back in order
- `recording`: `record`, a movie from whatever it comes into a store
- `alarms`: where and when the electrons of a movie change, frame by frame
- `passes`: what is done to a block of frames
- `sums`: what the blocks have added up to
- `measuring`: `measure`, one pass over all blocks
- `costs`: how long a pass takes, and how much memory, from runs that were measured
- `trials`: `trial`, such runs on parts of a reader's movie
- `command`: `plan` and `stream`, all of that for a file, with tables and a report
- `live`: `follow`, a folder that grows frame by frame

All of it goes on where it was killed, and names what is missing or damaged. `client` is any
`dask.distributed.Client`, that of a laptop or of a cluster; without one all is done in place.
"""

from insitu.streaming.costs import Costs
from insitu.streaming.live import follow
from insitu.streaming.measuring import measure
from insitu.streaming.recording import record
from insitu.streaming.store import open_store
from insitu.streaming.trials import trial

__all__ = ["Costs", "follow", "measure", "open_store", "record", "trial"]
