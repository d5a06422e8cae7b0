package jobspec

import (
	"crypto/rand"
	"strings"
)

// newName makes a name such as helpful_mango_8x2k1q9b7d. Its ten letters and
// digits alone have 51 bits of chance.
func newName() string {
	const alphabet = "0123456789bcdfghjklmnpqrstvwxyz" // no vowels, no words
	suffix := make([]byte, 10)
	for i := range suffix {
		suffix[i] = alphabet[roll(len(alphabet))]
	}
	return adjectives[roll(len(adjectives))] + "_" + nouns[roll(len(nouns))] + "_" + string(suffix)
}

// roll draws evenly from 0 to n-1, for n up to 256.
func roll(n int) int {
	var b [1]byte
	for {
		rand.Read(b[:])            // never fails
		if int(b[0]) < 256-256%n { // else the low numbers would come more often
			return int(b[0]) % n
		}
	}
}

var adjectives = strings.Fields(`amber ample bold brave breezy bright brisk calm careful cheerful clear clever
	coral cosy crisp daring eager early easy fair fine fluent fond frank fresh friendly gentle glad golden good
	graceful grand green happy hardy helpful honest humble jolly keen kind light lively loyal lucid lucky mellow
	merry mild modest neat nimble noble olive patient plain polite proud quick quiet rapid ready robust rosy
	serene sharp silent silver simple sincere smart smooth soft steady strong sunny swift tender tidy upbeat
	vivid warm willing wise witty`)

var nouns = strings.Fields(`acorn almond anchor apple apricot arch aspen badger bamboo barley basil bay beacon
	bean birch bread bridge brook candle carrot cedar cherry chestnut clover coconut comet cove crane cricket
	date dune falcon feather fennel fern fig finch forest fox garden ginger grape harbor hazel heron hill island
	ivy jasmine juniper kettle kite kiwi lagoon lake lantern larch lemon lentil lily lime lotus lynx mango maple
	meadow melon mint moon moss mountain nectar nutmeg oak oasis olive onion orange orchid otter owl papaya
	parsley peach pear pebble pepper pine plum pond poplar pumpkin quince radish rain reef ridge river robin
	rose sage sail sand seal sesame shell spruce star stone stork sugar tea thyme tulip valley walnut willow wren`)
