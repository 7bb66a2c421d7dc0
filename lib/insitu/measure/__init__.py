"""Part IV: columns, events, occupancy."""
