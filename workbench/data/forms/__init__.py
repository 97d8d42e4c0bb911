"""The forms of records that people have: each reads a row as an `Example`, or is none of its business."""
