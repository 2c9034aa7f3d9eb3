// Package check judges a ring afterwards, from what its programs and nodes
// wrote down while faults were injected: the promises about messages clause by
// clause, the agreement of the nodes, and what each of them used. It starts
// nothing and changes nothing.
package check
