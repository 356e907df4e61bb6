"""1,024 common English words, each of them one token in the vocabularies of many models.

With a space before it and without, each is one token of cl100k, o200k, DeepSeek V3, Qwen 2 to 3.6, Llama 3, Gemma 3 and
Mistral's Tekken (`benchmarks/prompt_words.py` counts them again). So a text of N of these words is N tokens long there,
and no tokenizer is needed to write it.
"""

from typing import Final

__all__ = ["WORDS"]

_TEXT: Final = """
the and for con this that with pro return you new from are int class not was public have get can self all cont will
your out has but function void set var else more his they per data one dis name true end null their private who time
man which any false value app about add string over type inter part work when use off other been sup had were file
would our year some there said her comm like let also than static just result into what list case first import act
char only print its back need sub start user under then may how people ind should test bet make after right long min
array she par read form trans number require col key two size where while spec look could know hand most try now him
break every point mod error text pol show find current used play log see help these pass down even item don did
through last event again high line does before because state cons here final run very model way call cal well object
years default ins sim view pres many being good using stud request child echo person style method expect found post
such think much count med check open est next follow car game path each support own sign those err system best same
create made mark group fin world process main color report take day top free action index real max build message
input art between table head must order say product double place week prop program response code without sol ref
still assert cap rep field team second going range nil fact android home left direct allow beg page different around
really image target both put level document local content quest float poss too extends fore great month super title
context met life catch pay change position old book version three law base console against power width label project
element success date tot big map pop ear match node another sit care effect fun leg service since non full turn body
something stand available block keep throw red control come custom source await mill ask output email disc business
required never hard intern called options height small access protected job address sum little port status update
link given better already including always parent got less account lot valid bit following prom search temp rest
interest perform site values won video prof cell player cost hum total stat load clear row short override company
done health obj children cur days initial online instance organ reason within design cent school consider include
stop later client love able men give condition copy either important lead family option exist offer water step
display times four far present lib room once results continue talk mass mean until market area length kind light
side example camp miss based plan away button render near country author specific along express begin software imp
win thing why single anal ant season possible sent command money auto working query window column record making
close percent past write move pat special city select font course late amount hold pot property low price today adv
means story den sort task opt review switch above question word cover whether having large created host role web
deal problem press though points ever services server files often info space password store format details face save
items social mar major expected yet food members comb bar send inc diff global contact except character news device
previous material below media fail component added buy delete card root handle claim air enter location night pick
watch human dam tax box strong interface house track pack section unsigned wait throws terms apply session others
fund template subject history users future mode games products bad known exec seen border live variable provided
website network limit cut went community official visit token months learn mind quick comment admin represent series
hot original bill frame draw comes elect filter remove front dig gen selected according virtual hours models early
center language ago download students fig buffer due cannot register period screen net neg common accept random hit
click players among deb answer walk age five friend clean words header issue land stream quality works half simple
empty relations nothing running share entry changes personal offset pie events whole likely writing rate correct
fall vol features minutes similar son moment bring member foot board push please types edit defined thread instead
idea film phone active article almost connect feature via install complete general icon party vector normal database
music speed doc viol forward failed sender term published probably returns weight exception module loss engine
issues parse lower former six margin heart rather building questions security inside graph tag round friends alt
energy raise policy third bed training exit release outside ground unique pour tree byte ball fast memory fit extra
resources wrong unit etc coming settings blog pretty menu currently names actual fields fix cases respect progress
mid resource dim direction numbers sound statement alert contract lines soon join fill choose office transform hash
flag note upon groups risk gets cause van focus multiple commit leave align reading notice lock standard padding
states internal cross national script arch written images platform force pattern entity tool feed popular methods
allowed elements train related scale score student average court container parts song channel changed finally
convert ways mat plus profile ready latest region deep counter lost dog paper staff driver category stock rules
contains stack undefined bottom road held includes tab insert machine operation areas operator tor argument movie
sec activity uses license ability parameter functions rot pen choice flex rev legal ten reference regular goal touch
built worth natural storage bytes grid bus login ill respond rule starting logger seek username otherwise drop
structure errors arguments ensure grad usually customer door plant distance route primary comments updated inform
led bank sample shape sleep safe shared remember scene park equal serial middle cop actions inn objects matrix ones
green layer views core directory secret chat origin setting stuff town solution slow blue cast dark package nor club
loop played existing complex analysis computer pas mobile owner
"""

WORDS: Final = _TEXT.split()
