"""From corpus files to numbered partitions: parse, number, pack, on any number of workers."""
