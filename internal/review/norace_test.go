//go:build !race

package review

const slowness = 1
