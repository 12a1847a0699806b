//go:build race

package review

// slowness is how many times smaller floods are under the race detector.
const slowness = 16
