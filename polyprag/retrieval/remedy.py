"""What to do about an index that is damaged or of another version; its errors end with it."""

REMEDY = "run `polyprag index RUN` again"
