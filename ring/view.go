package ring

// View is what the data plane of a node applies at once: the table that routes
// and the merge that may forbid parts of it. It is immutable.
type View struct {
	Table *Table // nil: nobody has been admitted yet
	Merge *Merge // nil: none
}
